# Completion of docker-volume-sshfs for bash. What click writes for it stumbles over OPTION=VALUE, which bash takes
# apart at the "=": here the words are joined again, and only what follows the "=" is replaced.
_docker_volume_sshfs() {
    local cur words cword suggestions kind suggestion
    _get_comp_words_by_ref -n = cur words cword
    suggestions=$(
        IFS=$'\n'
        COMP_WORDS="${words[*]}" COMP_CWORD=$cword _DOCKER_VOLUME_SSHFS_COMPLETE=bash_complete "$1"
    )
    COMPREPLY=()
    while IFS=, read -r kind suggestion; do
        case $kind in
        plain)
            COMPREPLY+=("${suggestion#"${cur%"${cur##*=}"}"}")
            [[ $suggestion != *= ]] || compopt -o nospace
            ;;
        file) compopt -o default ;;
        dir) compopt -o dirnames ;;
        esac
    done <<<"$suggestions"
}

complete -o nosort -F _docker_volume_sshfs docker-volume-sshfs
